"""The critic: a verdict for every step of a run. (The next stage of the project.)"""
