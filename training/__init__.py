"""What learns: retrain, curate, certify, evaluate, export, report."""
