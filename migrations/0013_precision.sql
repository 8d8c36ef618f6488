-- In which numbers a version computes, and the version (by number) that a quantised one is held against before it gets traffic.
-- What was registered before runs as its file says, which is what f32 asks of a runtime.
ALTER TABLE model_versions ADD COLUMN precision TEXT NOT NULL DEFAULT 'f32';
ALTER TABLE model_versions ADD COLUMN precision_reference TEXT;
