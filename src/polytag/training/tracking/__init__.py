"""A training run in the tracker that its user has: TensorBoard, MLflow or Weights & Biases."""
