"""The file catalogue (LFC): LFN tree, GUIDs, replicas; its ACLs govern names and nothing else."""
