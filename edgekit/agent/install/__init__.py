"""New models onto a running board: staged, tried beside the one that serves, committed or taken back."""
