"""Run Lockstep: the command, the local stack, block registration and deployments."""
