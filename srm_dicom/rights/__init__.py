"""May they: one ACL grammar, one pure evaluator, projects, and the rights that operations declare."""
