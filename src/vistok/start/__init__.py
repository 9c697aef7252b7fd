"""From a folder of images to samples."""
