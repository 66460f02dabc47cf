"""What is trained: one interface for the training loop, and what each kind of experiment makes of it.

task        the interface: `Task`, and the `Objective` that it gives the step
diffusion   the transformer and its adapter (`mmjax.config.Experiment`)
vae         the video autoencoder (`mmjax.vae_experiment.VAEExperiment`)
registry    from an experiment to its task
"""
