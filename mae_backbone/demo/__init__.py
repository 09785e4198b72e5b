"""A web page on this machine to try a trained model on single images."""
