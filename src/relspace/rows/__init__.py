"""Sources of rows of features, and outputs of results: files, stores, clusters."""
