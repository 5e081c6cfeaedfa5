"""What the stages share: geometry, file formats, seeds, the prepared data set, error messages."""
