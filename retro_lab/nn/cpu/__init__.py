"""Operations of the model as C kernels, with the same results as the plain ones."""
