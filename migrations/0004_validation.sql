-- What a version is said to achieve, and which of its artifacts it is tested on.
ALTER TABLE model_versions ADD COLUMN baseline TEXT;
ALTER TABLE model_versions ADD COLUMN validation_sample TEXT;
