"""The command ``dssl``: pretraining, fine-tuning and prediction on folders and tables of files."""
