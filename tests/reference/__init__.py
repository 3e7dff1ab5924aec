"""Independent computations of what jobs must give. They import nothing of Regather (checked by `make arch`)."""
