"""What other libraries ask for; each file imports its own, and nothing here is imported unless it is asked for."""
