"""Content credentials of pictures: signing and reading them, with c2pa-python."""
