"""What training minimises: a list of terms with one interface (METHOD 4). Begin with `terms`.

terms       the interface, the denoising loss in its two forms, and how terms become one loss
identity    the identity loss: a recogniser judges a decoded frame
judges      the networks that judge, loaded once, outside of what is trained and saved
"""
