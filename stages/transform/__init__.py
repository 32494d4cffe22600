"""transform: photographs that were in no set, seen with the concepts of one."""
