-- The header that the route went by when the request was taken in, as `name:value`, the value in hexadecimal: it is any bytes.
ALTER TABLE async_requests ADD COLUMN sticky_header TEXT;
