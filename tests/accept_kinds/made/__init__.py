"""Files that the suite makes: types x cuts x encodings x compressions x damage."""
