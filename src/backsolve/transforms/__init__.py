"""What a user calls on a function: derivatives, solves, Newton's method."""
