"""What runs leave behind and others read: a run's experiment (`runs`), its parameters (`parameters`), starting points.

`adapters` opens a trained adapter wherever it lies, `export` writes one into a file; `base` tells bases apart.
`start` gives a training run its first weights; `same_model` is the one check whether weights are of the model that is
to use them. Published weights are another matter: `mmjax.conversion`.
"""
