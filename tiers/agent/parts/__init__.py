"""What an agent is made of, and how it becomes what a topology wants."""
