//! WebDataset shards to batches of pictures and captions.
