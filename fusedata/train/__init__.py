"""Training on published datasets: SFT, then DPO, by TRL; a reader of what the stages before it wrote."""
