"""The command line: thin verbs over what the other packages do."""
