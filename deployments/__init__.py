"""How Lockstep is run: the command, the local stack, block registration and deployments."""
