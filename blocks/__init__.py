"""The parts that Lockstep connects to, as Prefect blocks: each holds configuration and makes a client, nothing more."""
