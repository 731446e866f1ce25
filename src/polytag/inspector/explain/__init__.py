"""Why a run errs: pages about one class, pairs of classes and near duplicates."""
