"""What all of vistok's pages share: one look, one meaning for each colour, charts that can be read on a phone."""
