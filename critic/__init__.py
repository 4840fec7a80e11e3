"""The critic: a verdict for every step of a run, from a judge model, a rule or a person."""
