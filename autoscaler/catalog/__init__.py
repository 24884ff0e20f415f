"""What each cloud's machines are and what they cost: dated price files, read without asking anybody."""
