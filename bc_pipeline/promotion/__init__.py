"""How a challenger becomes the champion: the gate decides, the release moves the pointer."""
