"""What a threshold finds and how often it is right, measured on the user's own pictures."""
