"""The course as a static website, made from the executed notebooks: `make site`. It works from a folder, without a server or a network."""
