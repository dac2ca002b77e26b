"""The parts that Lockstep connects to: Prefect blocks that hold configuration and return clients, nothing more."""
