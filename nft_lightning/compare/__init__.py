"""Many runs, one honest report: equal conditions or none, paired, with intervals."""
