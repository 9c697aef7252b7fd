"""The app: vistok's runs, pictures, scores and trainings in a browser on this machine."""
