"""The reference hub: for trying things, and for tests."""
