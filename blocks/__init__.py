"""What Lockstep connects to: Prefect blocks that hold configuration and hand out clients, nothing more."""
