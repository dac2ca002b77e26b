"""The local stack: the parts that `lockstep up` starts, and their health. Imports no flows and no commands."""
