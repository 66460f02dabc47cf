"""Pure functions of diffusion: noise schedule, training loss, guidance, samplers. No model and no files.

Begin with `schedule` (what a noisy latent is), then `loss` and `conditioning_dropout` (training) or `guidance` and
`samplers` (a row of `SAMPLERS` for each).
"""
