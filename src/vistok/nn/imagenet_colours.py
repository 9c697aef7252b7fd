"""What torchvision's networks, and those that follow it, expect of colours: channels less a mean, over a deviation."""

# Of ImageNet's pixels, from 0 to 1, by channel.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
