"""From verdicts to token weights to a trained model. (The next stage of the project.)"""
