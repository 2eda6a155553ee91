"""The archive in a browser: what was recorded, what is missing, and the sound itself."""
