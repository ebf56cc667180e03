-- What the examples work on: orders are placed, and somebody writes letters about them.
CREATE TABLE orders (customer text, number int, PRIMARY KEY (customer, number));
CREATE TABLE letters (id bigint GENERATED ALWAYS AS IDENTITY, reader text, about text, number int);
