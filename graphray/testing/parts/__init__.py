"""The parts of the conformance suite, one theme each."""
