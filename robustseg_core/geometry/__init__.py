"""Where things lie: cameras, transforms, and the view on whose grid everything is drawn."""
