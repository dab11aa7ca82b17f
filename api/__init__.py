"""HTTP and the command line: wires the ledger and the engine together, and turns errors into answers."""
