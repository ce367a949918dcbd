"""Where rows of features come from and where results go: sources, files, outputs, clusters."""
