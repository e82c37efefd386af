"""The console's pages for people, and the templates and files that they are made of."""
