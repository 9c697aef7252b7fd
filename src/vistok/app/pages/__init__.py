"""The app's pages: each file lays out one of them and connects it with the functions beside this folder."""
