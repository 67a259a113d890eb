"""Tables of Arrow: Parquet files, and datasets of the Hugging Face hub or in its layout on the disk."""
