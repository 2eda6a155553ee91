"""What is wrong with a machine's sound: `collect` sees, `judge` names the cause, `causes` knows the cure."""
